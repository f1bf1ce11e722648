"""The Docker SDK for Python, of PyPI: its everyday calls of every collection, on the socket and over mutual TLS.

Run by tests/clients/run, which gives it a daemon of its own.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
import containers
import files
import host
import images
import streams
from checks import checks_of, run
from world import World

if __name__ == '__main__':
    sys.exit(run('client-python', checks_of(containers, streams, files, images, host), World()))
