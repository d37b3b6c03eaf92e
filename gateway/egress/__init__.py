"""The egress: connects outside on behalf of versions that are allowed a network.

A process of its own beside gateway and zygote (``python -m gateway.egress``). A worker reaches nothing but a listening
socket in its own network namespace; the zygote hands that socket over, and here is who accepts on it.
"""
