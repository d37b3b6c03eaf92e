"""The command ``tailcut``: thin commands over ``tailcut.Client``; ``main`` assembles them."""
