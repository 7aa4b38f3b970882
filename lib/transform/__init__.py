"""Images as other networks want them, by the module name that prototxts of py-faster-rcnn use.

torch_image_transform_layer.py    pixels as networks trained in Torch and PyTorch expect them
"""
