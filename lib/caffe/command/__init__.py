"""What `python -m caffe` does, one command a file: each has `add_flags(parser)` and `run(args)`."""

HELP = {
    'train': 'train or finetune a net',
    'test': 'score a net with its weights',
    'time': 'measure forward and backward of each layer',
    'summary': 'print layers, shapes, parameters, memory and work of a net',
    'draw': 'draw a net',
    'upgrade': 'bring an old net or solver file to the present format',
    'export': 'write a net with its weights as an ONNX file',
    'device': 'show processor and GPU, and check how fast each way to compute is',
}
"""Each command in a few words."""
