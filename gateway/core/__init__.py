"""The only package that touches cffi: libzigcore.so, loaded once, behind typed classes.

``binding`` loads the library; ``data_plane`` is the gateway's side, ``worker_loop`` the worker's.
"""
