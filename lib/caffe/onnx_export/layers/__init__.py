"""How the layer types export, a file a family: the families of `caffe.layers`."""
