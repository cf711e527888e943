"""Networks of PSFR-GAN: plain PyTorch modules that know nothing of files, data sets or parameters.

Images are float (B, 3, H, W), RGB, in [-1, 1]. Parsing maps are int64 (B, H, W) of class labels from 0 to 18.
"""

NUM_CLASSES = 19  # face parsing labels of CelebAMask-HQ, the background included
