"""`tfscale doctor --peers`: every task of a cluster asks every other, and all compare.

    protocol        a line of JSON each way, over a connection
    shared_folder   what one task writes, another sees
    row             what one task learns of the others
    meeting         the tasks wait for each other
    findings        what is wrong with a table of rows

Nothing is authenticated: keep a cluster in a closed network. What arrives at the port is data to
judge; the answers hold versions, addresses and times, and a request can name no file but those that
a doctor made in the folder of `--shared_dir`.
"""
