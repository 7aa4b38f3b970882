"""Serving: a detector behind HTTP. It knows images and a function that detects, and nothing of nets.

limits.py      what a request may cost, and the words of a refusal
body.py        the bytes of a request: read in time and within bounds, the picture of a form taken out
picture.py     those bytes as an image, with the header asked before pixels are
batching.py    the queue, and the one thread that detects in what has come together
metrics.py     what Prometheus asks
app.py         the addresses: /detect, /, /health, /metrics (page.html)
connection.py  a connection of uvicorn's with deadlines, and a bound on how many there are
server.py      listening, and ending well
"""
