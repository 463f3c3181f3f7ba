"""Points in fp16 and int8 beside their float points, each gated on labelled images before it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from subspace_serve.answers import softmax
from subspace_serve.bundle.gate import logits_in_batches
from subspace_serve.bundle.manifest import TRAINING, Calibration, Input, Parity
from subspace_serve.bundle.reduced import Gate, Quality, Reduction
from subspace_serve.bundle.session import PointSession, open_session
from subspace_serve.bundle.verify import check_graph
from subspace_serve.bundle.writer import BundleWriter
from subspace_serve.data import Images
from subspace_serve.errors import BundleError, ExportError
from subspace_serve.export.answers import Answers
from subspace_serve.export.plan import BundlePlan, GateData, PointPlan
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.network import BLOCK, Network
from subspace_serve.network.reduced import SCHEME, Precision, instructions, reduce_graph
from subspace_serve.network.served import as_served

CALIBRATION_IMAGES = 512
"""At most this many of a point's calibration images, in whole batches (at least one), give int8 its ranges."""


@dataclass(frozen=True)
class Reducer:
    """Writes points in fewer bits into a bundle, from the float points that it holds.

    Attributes:
        bundle: that is being written.
        network: the subspace.
        plan: of the bundle; it names the precisions and the gate.
        input: what the bundle's graphs take.
        pixels: images on which answers are compared, uint8 (N, H, W, C).
        answers: fits temperatures, measures and promises.
        progress: called with a line for each point.
    """

    bundle: BundleWriter
    network: Network
    plan: BundlePlan
    input: Input
    pixels: np.ndarray
    answers: Answers
    progress: Callable[[str], None]
    _tops: dict[str, np.ndarray] = field(default_factory=dict, init=False)

    def write(self, point: PointPlan, expected: np.ndarray) -> dict[str, np.ndarray]:
        """Write a point in each precision of the plan; return their logits for `pixels` by name.

        Args:
            point: a float point that the bundle holds.
            expected: its logits for `pixels`.

        Raises:
            ExportError: a graph cannot be made, or does not pass the gate.
        """
        if not self.plan.precisions:
            return {}
        gate = self.plan.required_gate
        before = self._logits(self._open(point.name), gate.images)
        self._tops[point.name] = before.argmax(axis=1)
        return {
            plan.name: self._write(point, plan, precision, expected, before, gate)
            for precision, plan in ((precision, point.in_precision(precision)) for precision in self.plan.precisions)
        }

    def _write(
        self,
        point: PointPlan,
        plan: PointPlan,
        precision: Precision,
        expected: np.ndarray,
        before: np.ndarray,
        gate: GateData,
    ) -> np.ndarray:
        calibration = self._calibration(point) if precision == "int8" else []
        graph = reduce_graph(self.bundle.file(point.name).read_bytes(), precision, calibration)
        file = self.bundle.file(plan.name)
        file.write_bytes(graph.data)
        try:
            check_graph(file)
            session = self._open(plan.name)
        except BundleError as error:
            raise ExportError(
                f"{plan.name} cannot run in {precision} here ({error}); the bundle was not written"
            ) from error
        record = gated(plan.name, before, self._logits(session, gate.images), gate)
        self.answers.add(plan.name, lambda images: self._logits(session, images))
        logits = logits_in_batches(session, self.pixels, self.input)
        self.bundle.add_point(
            plan.name,
            alpha=plan.alpha,
            coefficients=self.network.geometry.coefficients(plan.alpha, extrapolate=True).tolist(),
            calibration=Calibration(**plan.calibration.to_json()) if self.network.skeleton.batchnorms else None,
            parity=Parity(
                provider=session.provider,
                max_abs_diff=float(np.abs(logits - expected).max()),
                top1_flips=int((logits.argmax(1) != expected.argmax(1)).sum()),
                tolerance=max(1.0, float(np.abs(expected).max())),
                reference="skeleton",
            ),
            statistics=TRAINING if plan.calibration is self.plan.subspace else None,
            precision=precision,
            reduction=Reduction(
                of=point.name,
                scheme=SCHEME if precision == "int8" else None,
                calibrated_on=sum(map(len, calibration)) or None,
                left_in_float=graph.left_in_float,
                instructions=instructions(),
                gate=record,
            ),
            **vars(self.answers.record(plan.name)),
        )
        left = ", ".join(f"{count} {name}" for name, count in graph.left_in_float.items())
        self.progress(
            f"{plan.name}: {file.stat().st_size / self.bundle.file(point.name).stat().st_size:.0%} of {point.name}'s "
            f"size, {100 * (record.float32.accuracy - record.reduced.accuracy):.2f} points of accuracy lost on "
            f"{record.images} images, {record.flips:.2%} of answers flip; left in float: {left}"
        )
        return logits

    def finish(self) -> None:
        """Store the images on which the gates are repeated."""
        if self.plan.precisions:
            gate = self.plan.required_gate
            pixels, labels = gate.images.take(np.arange(gate.repeated))
            self.bundle.set_gate(pixels, labels, {name: top[: gate.repeated] for name, top in self._tops.items()})

    def _calibration(self, point: PointPlan) -> list[np.ndarray]:
        """Return the batches that give int8 its ranges, in the graph's input format."""
        source = point.calibration
        if not isinstance(source, CalibrationData):
            raise ExportError(
                f"int8 takes images of the kind that {point.name} will see, and its statistics came without any; name "
                "some with --calibrate-on"
            )
        batches = islice(source.pixels(), max(1, CALIBRATION_IMAGES // source.batch_size))
        return [as_served(pixels, self.plan.input_type) for pixels in batches]

    def _open(self, name: str) -> PointSession:
        return open_session(self.bundle.file(name), self.input, self.network.classes, device="cpu")

    def _logits(self, session: PointSession, images: Images) -> np.ndarray:
        return np.concatenate([logits_in_batches(session, pixels, self.input) for pixels, _ in images.batches(BLOCK)])


def gated(name: str, before: np.ndarray, after: np.ndarray, gate: GateData) -> Gate:
    """Compare the logits (N, classes) of a graph in fewer bits with its float graph's on the gate's images.

    Raises:
        ExportError: it loses more accuracy than the gate allows.
    """
    labels = gate.images.labels
    flips = before.argmax(axis=1) != after.argmax(axis=1)
    right = [logits.argmax(axis=1) == labels for logits in (before, after)]
    drop, repeated_drop = (
        100 * float(right[0][part].mean() - right[1][part].mean()) for part in (slice(None), slice(gate.repeated))
    )
    if drop > gate.max_drop + 1e-9:
        raise ExportError(
            f"{name} does not pass its gate: it loses {drop:.2f} points of accuracy on {len(labels)} images of "
            f"{gate.name}, allowed are {gate.max_drop:g} ({flips.mean():.1%} of answers flip); export it in float32 or "
            "fp16, calibrate on images nearer to the task (--calibrate-on), or allow more with --max-drop; the bundle "
            "was not written"
        )
    return Gate(
        data=gate.name,
        images=len(labels),
        seed=gate.seed,
        float32=_quality(before, labels),
        reduced=_quality(after, labels),
        flips=float(flips.mean()),
        max_drop=gate.max_drop,
        repeated=gate.repeated,
        repeated_drop=repeated_drop,
    )


def _quality(logits: np.ndarray, labels: np.ndarray) -> Quality:
    metrics = classification_metrics(softmax(logits), labels)
    return Quality(accuracy=metrics["accuracy"], ece=min(metrics["ece"], 1.0), nll=max(metrics["nll"], 0.0))
