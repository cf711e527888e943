"""Training of the face parsing network and of the GAN."""
