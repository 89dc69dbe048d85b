"""The network of MTCNN (arXiv:1604.02878) that settles where faces are, with weights that facenet-pytorch ships."""

from runtime_tests.corpus._facenet import network

MODEL = network("ONet", pixels=48)
