"""Caffe's files, read and written: prototxts of any age, .caffemodel, .solverstate, .binaryproto, their HDF5 forms."""
