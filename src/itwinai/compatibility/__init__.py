"""All that only programs written for itwinai 0.4 use.

They import it at the old addresses, where a face of a few lines hands it on. Nothing is new here:
what it does, it does with the rest of the package.
"""
