"""The zygote: a warm, single-threaded interpreter that workers are forked from.

``__main__`` starts it, ``server`` listens and forks, ``protocol`` is its half of the wire format, ``warm`` what is
imported before the first fork, ``child`` turns a fork into a worker. Nothing here runs tenant code except ``child``.
"""
