"""Nets as ONNX files: `python -m caffe export`.

    from caffe.onnx_export.model import export
    onnx.save(export(net), 'net.onnx')

How each layer type exports stands in `layers/`, a file a family, as in `caffe.layers`. Needs the package `onnx`, and is
imported only where somebody exports: `import caffe` does without.
"""
