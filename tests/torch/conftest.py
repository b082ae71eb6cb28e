"""Here so that the tests in the folders below can import this folder's helpers."""
