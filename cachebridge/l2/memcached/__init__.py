"""Memcached as the shared store.  Internal.

::

    store.py, astore.py   what each call of ``L2Store`` does, for threads and for tasks
        loads.py          leases, stale copies, absence marks
        plans.py          single commands
        talk.py           what all of these share: requests, and what is read back
            cluster.py    which server has a key; its connections and its breaker
            clears.py     what has been cleared, and so is dead
            items.py      what an item holds: flags, envelope, marks
            protocol.py   commands and replies
            names.py      the names of keys
"""
