"""The networks of PSFR-GAN. They know tensors alone: nothing of files, data sets or parameters.

Images are float (B, 3, H, W) in [-1, 1], RGB; labels are int64 (B, H, W), region numbers from 0 to 18.
"""
