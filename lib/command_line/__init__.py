"""What every command of this project does at a shell, `python -m caffe` and the tools: Ctrl-C, streams, errors.

Knows neither of the two, and nothing but the standard library: a tool may import it before a Caffe is chosen.
"""
