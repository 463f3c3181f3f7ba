"""What several ranks agree on before they train together: settings, data, and how far an earlier start got."""

from __future__ import annotations

from subspace_serve.data import DataSet
from subspace_serve.data.file_check import Track, untracked
from subspace_serve.errors import TrainingError
from subspace_serve.packages import versions
from trainer.config import TrainingConfig
from trainer.parameters import EndpointMatrix
from trainer.preparation import prepared_data
from trainer.progress import Progress
from trainer.ranks import Ranks
from trainer.run_folder import RunFolder, TrainedOn


def shared_data(
    config: TrainingConfig,
    ranks: Ranks,
    *,
    download: bool,
    earlier: TrainedOn | None = None,
    track: Track = untracked,
    data: DataSet | None = None,
) -> DataSet:
    """Load the data set on every rank, unless it is given; where downloading is allowed, one rank per machine does it.

    Args:
        config: the run's settings.
        ranks: the processes that train together.
        download: fetch a data set that is missing and can be fetched.
        earlier: what an earlier start of the run was trained on, when it is resumed.
        track: shows the progress of checking image files.
        data: the data set, where it is loaded already.

    Raises:
        RankError: a rank has other versions, settings or data.
        TrainingError: the data are not those of the earlier start.
        DataError: as `prepared_data`.
    """
    ranks.check_same("versions", versions())
    ranks.check_same("settings", config.to_json())
    waits = download and ranks.local_rank > 0
    if waits:
        ranks.everyones("has its machine's data")
    if data is None:
        size = earlier.decoded_size if earlier else None
        data = prepared_data(config, download=download, decoded_size=size, track=track)
    if download and not waits:
        ranks.everyones("has its machine's data")
    ranks.check_same("data (their fingerprint)", data.fingerprint)
    if earlier and data.fingerprint != earlier.fingerprint:
        raise TrainingError(
            f"the data set {config.data} has changed since the run was started on it (its fingerprint differs); bring "
            "the old data back, or start the run anew"
        )
    return data


def load_shared_progress(run: RunFolder, endpoints: EndpointMatrix, ranks: Ranks) -> Progress:
    """Restore the state that the first rank reads into every rank's endpoints; return how far the run has come.

    Raises:
        TrainingError: as `RunFolder.load_progress`, on the first rank.
    """
    state = run.load_progress(endpoints).state() if ranks.is_first else {}
    progress = Progress.from_state(ranks.broadcast(state), endpoints.values.device)
    ranks.broadcast_(endpoints.values)
    ranks.broadcast_(endpoints.velocity)
    return progress
