"""The worker of the soak test; it also notes when its L1 was not in use."""

from tests.proofs.cluster.worker import ClusterWorker
from tests.proofs.processes.worker import main
from tests.proofs.soak.worker import SoakWorker


class ClusterSoakWorker(ClusterWorker, SoakWorker):
    """The threads, and the answers to the driver."""


if __name__ == "__main__":
    main(ClusterSoakWorker)
