"""Training loops: of the face parsing network, and of the GAN."""
