"""Memcached as the shared store.  Internal.

::

    store.py              what each call of ``L2Store`` does, and its messages
        loads.py          leases, stale copies, absence marks
        operations.py     single commands
        requests.py       what all of these share: requests, and what is read back
            cluster.py    which server has a key; its connections and its breaker
            clears.py     what was cleared, and so is dead
            items.py      the content of an item: flags, envelope, marks
            protocol.py   commands and replies
            names.py      the names of keys
"""
