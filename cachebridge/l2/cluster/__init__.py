"""Redis Cluster as L2: keys on several masters, by the slots of their names.

::

    store.py      which master each call of ``L2Store`` goes to; batches by slot
        client.py     one master: a request whose slot has moved is sent on
        slots.py      slots, the map of them, and replies that redirect
        names.py      names that are in the slot of their key
"""
