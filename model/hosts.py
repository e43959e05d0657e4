"""Several hosts that train as one: joining, small agreements, stopping together.

Every host runs the same command. What must be equal on all but is known only in parts
(the size of a batch's pools, that a record of it is corrupt) goes through the key-value
store of JAX's coordination service: never through the devices, whose order of work is
the training step's. The only file that knows this service: JAX 0.10 has no public way
to its store, only to `initialize` and to exchanges over the devices.
"""

import argparse
import json
import threading
import time
from typing import Any

import jax
from jax._src import distributed
from jax.experimental import multihost_utils

from gato.schemas.errors import GatoError, UsageError

AUTO = "auto"
# How long one host may be behind another with one batch.
_PATIENCE_SECONDS = 1800.0
# After so long a waiting host looks whether it is to stop.
_LOOK_MILLISECONDS = 500


def join(arguments: argparse.Namespace) -> None:
    """Makes this process one of several hosts, as the command line says.

    Raises:
        UsageError: If the flags do not fit each other.
        GatoError: If the others cannot be reached.
    """
    address, count, host = arguments.coordinator, arguments.num_hosts, arguments.host
    if address is None:
        if count is not None or host is not None:
            raise UsageError("--num_hosts and --host go with --coordinator HOST:PORT.")
        return
    if address != AUTO and (count is None or host is None or not 0 <= host < count):
        raise UsageError(
            "--coordinator HOST:PORT goes with --num_hosts N and --host I with"
            f" 0 <= I < N, got {count} and {host}. On TPU pods and under Slurm give"
            " --coordinator auto alone."
        )
    if address == AUTO and (count is not None or host is not None):
        raise UsageError("--coordinator auto finds --num_hosts and --host by itself.")
    try:
        jax.distributed.initialize(None if address == AUTO else address, count, host)
    except (RuntimeError, ValueError) as error:
        raise GatoError(
            f"--coordinator {address}: the hosts were not brought together: {error}."
            " Do all run, with one address that host 0 listens on?"
        ) from error


class Hosts:
    """This host and the others.

    Attributes:
        index: This host's number.
        count: How many there are.
    """

    def __init__(self) -> None:
        self.index = jax.process_index()
        self.count = jax.process_count()
        self._stopped = threading.Event()
        self._last: str | None = None

    @property
    def is_first(self) -> bool:
        """Whether this host writes metrics and the terminal."""
        return self.index == 0

    def largest(self, key: str, value: int) -> int:
        """Returns the largest of the values that all hosts give under a key.

        All hosts ask for the same keys in the same order.

        Raises:
            GatoError: If another host failed under this key, in its words.
        """
        if self.count == 1:
            return value
        found = self._exchange(key, {"value": value})
        for host, told in enumerate(found):
            if "error" in told:
                raise GatoError(f"host {host}: {told['error']}")
        return max(told["value"] for told in found)

    def fail(self, key: str, error: Exception) -> None:
        """Tells all who ask for a key that this host has failed under it."""
        if self.count > 1:
            self._exchange(key, {"error": str(error)})

    def _exchange(self, key: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        client: Any = distributed.global_state.client
        mine = f"gato/{key}/{self.index}"
        client.key_value_set(mine, json.dumps(told))
        found = [json.loads(self._get(f"gato/{key}/{h}", h)) for h in range(self.count)]
        # All have told of this key, so all have read the one before.
        if self._last is not None:
            client.key_value_delete(self._last)
        self._last = mine
        return found

    def _get(self, key: str, host: int) -> str:
        client: Any = distributed.global_state.client
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end and not self._stopped.is_set():
            try:
                return client.blocking_key_value_get(key, _LOOK_MILLISECONDS)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise GatoError(f"host {host} cannot be reached: {error}") from None
        raise GatoError(
            f"host {host} gave no word for {key} in {_PATIENCE_SECONDS:g} s. Look at"
            " what it printed; the same command on all hosts resumes."
        )

    def stop_waiting(self) -> None:
        """Ends what waits for other hosts, in any thread."""
        self._stopped.set()

    def is_preempted(self, step: int) -> bool:
        """Returns whether all hosts are to stop after this step.

        With one host always False. Of several, SIGTERM at any of them makes all agree
        on one step, no earlier than the furthest of them.
        """
        return self.count > 1 and multihost_utils.reached_preemption_sync_point(step)
