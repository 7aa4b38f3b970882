"""What `python -m caffe` does, one command a file: each has `add_flags(parser)` and `run(args)`."""
