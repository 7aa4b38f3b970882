"""Layers that read and write files, and layers of the user's own code: none of them is arithmetic."""

from __future__ import annotations

from caffe.onnx_export.recipes import no_equivalent

_INPUT = 'give the net Input layers in its place, as a deploy.prototxt has them'

no_equivalent('Data', f'it reads a data base; {_INPUT}')
no_equivalent('HDF5Data', f'it reads HDF5 files; {_INPUT}')
no_equivalent('HDF5Output', 'it writes a file; take it out of the net')
no_equivalent('ImageData', f'it reads images; {_INPUT}')
no_equivalent('MemoryData', f'it reads the memory of its process; {_INPUT}')
no_equivalent('WindowData', f'it reads images; {_INPUT}')
no_equivalent('Python', "it is the user's Python code; put Input layers, or layers of native types, in its place")
