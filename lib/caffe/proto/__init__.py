"""Caffe's protocol buffer messages: `from caffe.proto import caffe_pb2`."""
