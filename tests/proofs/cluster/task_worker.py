"""The worker of this proof with every call of the cache made by a task."""

from tests.proofs.cluster.worker import ClusterWorker
from tests.proofs.processes import task_worker, worker

if __name__ == "__main__":
    worker.Cache = task_worker.task_cache
    worker.main(ClusterWorker)
