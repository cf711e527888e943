"""File names of the pretrained networks that training and inference load."""

# In data/weights/perceptual: backbones of the semantic-aware style loss.
VGG_BACKBONES = {"vgg16": "vgg_shift_tolerant.pth", "vgg19": "vgg19-dcbb9e9d.pth"}

# In data/weights/published: the networks of the authors of the paper.
PUBLISHED_FPN = "parse_multi_iter_90000.pth"
PUBLISHED_GENERATOR = "psfrgan_epoch15_net_G.pth"
