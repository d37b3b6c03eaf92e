"""The zygote and its workers, driven through real sockets."""
