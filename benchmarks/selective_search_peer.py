"""OpenCV's selective search on a list of images, to compare with; needs only opencv-contrib-python-headless.

It is run in an environment of its own, for OpenCV is no dependency:

    python benchmarks/selective_search.py --list images.json
    OTHER/python benchmarks/selective_search_peer.py images.json fast peer_fast.json
    python benchmarks/selective_search.py --peer fast=peer_fast.json

The file it writes holds the boxes and the processor seconds of each image.
"""

import json
import sys
import time

import cv2

images, mode, out = sys.argv[1:4]
cv2.setNumThreads(1)
found = {"version": cv2.__version__, "images": {}}
with open(images, encoding="utf-8") as stream:
    paths = json.load(stream)[mode]
for path in paths:
    image = cv2.imread(path)
    height, width = image.shape[:2]
    cv2.setRNGSeed(0)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    began = time.process_time()
    if mode == "quality":
        search.switchToSelectiveSearchQuality()
    else:
        search.switchToSelectiveSearchFast()
    boxes = search.process()
    seconds = time.process_time() - began
    rows = [[int(x), int(y), int(x + w), int(y + h)] for x, y, w, h in boxes]
    found["images"][path] = {"seconds": seconds, "size": [height, width], "boxes": rows}
with open(out, "w", encoding="utf-8") as stream:
    json.dump(found, stream)
