"""What every engine must do, run over each: the real ones, and the tests' own."""

import io
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from processor import engines
from processor.audio import encode
from processor.engines.base import Engine, Speech, Utterance
from processor.engines.hibari import HibariEngine
from processor.engines.simulated import OutOfMemory, SimulatedEngine, read_back
from processor.errors import RequestError
from processor.events import AudioFormat
from processor.settings import EngineSettings, SimulatedSettings, load
from tests.engines import ScriptedEngine

pytestmark = pytest.mark.unit

SENTENCES = [
    "Good morning.",
    "The train to the north leaves at half past seven.",
    "On the 3rd of March 2024, 1,250 people paid $9.99 each to hear it.",
    "Why not?",
]


@pytest.fixture(scope="module", params=["hibari", "scripted", "simulated", "apart"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made: Engine
    if request.param == "hibari":
        made = HibariEngine(EngineSettings(threads=3))
    elif request.param == "apart":
        device = {"base_ms": 2, "item_ms": 1, "lanes": 3}
        made = engines.create(
            load(overrides={"engine": {"name": "simulated", "apart": True}, "simulated": device})
        )
    elif request.param == "simulated":
        made = SimulatedEngine(
            EngineSettings(), SimulatedSettings(base_ms=2, item_ms=1, lanes=3, bytecode_share=0.5)
        )
    else:
        made = ScriptedEngine(lanes=3)
    made.warm_up()
    yield made
    made.close()


def utterance(engine: Engine, text: str, *, seed: int = 1, speed: float = 1.0) -> Utterance:
    return Utterance(text, engine.capabilities.voices[0].name, speed, seed)


def speak(engine: Engine, one: Utterance) -> Speech:
    (result,) = engine.synthesize([one])
    assert isinstance(result, Speech)
    return result


def test_it_says_what_it_can_do(engine: Engine) -> None:
    able = engine.capabilities

    assert able.engine
    assert able.revision
    assert able.sample_rate >= 8000
    assert able.voices
    assert all(voice.version for voice in able.voices)
    assert able.speeds[0] <= 1.0 <= able.speeds[1]
    assert able.lanes >= 1
    assert able.max_batch >= 1


def test_speech_is_mono_float_and_within_full_scale(engine: Engine) -> None:
    samples = speak(engine, utterance(engine, SENTENCES[1])).samples

    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert np.isfinite(samples).all()
    assert 0.01 < np.abs(samples).max() <= 1.0


def test_the_same_utterance_sounds_the_same_and_another_seed_may_not(engine: Engine) -> None:
    first, again, other = (
        speak(engine, utterance(engine, SENTENCES[0], seed=seed)).samples for seed in (1, 1, 2)
    )

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_batch_does_not_change_the_audio(engine: Engine) -> None:
    able = engine.capabilities
    asked = [utterance(engine, text) for text in SENTENCES][: able.max_batch]
    together = engine.synthesize(asked)

    for one, result in zip(asked, together, strict=True):
        assert isinstance(result, Speech)
        alone = speak(engine, one).samples
        assert alone.shape == result.samples.shape
        assert np.abs(alone - result.samples).max() <= able.batch_tolerance


def test_lanes_at_work_at_once_do_not_disturb_each_other(engine: Engine) -> None:
    quiet = [speak(engine, utterance(engine, text)).samples for text in SENTENCES]
    results: dict[int, list[bool]] = {}
    start = threading.Barrier(engine.capabilities.lanes)

    def lane(number: int) -> None:
        start.wait()
        results[number] = [
            np.array_equal(speak(engine, utterance(engine, text)).samples, expected)
            for _ in range(5)
            for text, expected in zip(SENTENCES, quiet, strict=True)
        ]

    threads = [threading.Thread(target=lane, args=(n,)) for n in range(engine.capabilities.lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == engine.capabilities.lanes
    assert all(all(same) for same in results.values())


def test_faster_speech_is_shorter(engine: Engine) -> None:
    slow, fast = (
        len(speak(engine, utterance(engine, SENTENCES[1], speed=speed)).samples)
        for speed in (0.8, 1.6)
    )

    assert 1.6 < slow / fast < 2.4


def test_what_it_cannot_read_is_refused_and_not_left_out(engine: Engine) -> None:
    if engine.capabilities.engine == "simulated":
        engine.check("A snowman ☃ and 你好.")  # it reads everything
        return
    engine.check("Plain English; café, naïve, Straße: 100 % of it, “quoted”, № 5 — and more…")
    with pytest.raises(RequestError) as refused:
        engine.check("A snowman ☃ and 你好." if isinstance(engine, ScriptedEngine) else "Hi 你好.")

    assert refused.value.field == "text"


def test_hibari_turns_silence_into_a_refusal() -> None:
    engine = HibariEngine(EngineSettings(threads=1))
    engine.warm_up()

    (result,) = engine.synthesize([utterance(engine, "😀")])

    assert isinstance(result, RequestError)
    assert result.code == "UNSUPPORTED_TEXT"
    assert not result.retryable


def simulated(**device: object) -> SimulatedEngine:
    return SimulatedEngine(
        EngineSettings(), SimulatedSettings.model_validate({"base_ms": 1, "item_ms": 0} | device)
    )


def test_simulated_audio_carries_its_text_also_through_a_16_bit_file() -> None:
    engine = simulated()
    samples = speak(engine, utterance(engine, "Grüße, 你好")).samples
    file = encode(samples, engine.capabilities.sample_rate, AudioFormat.WAV).data
    read, _ = soundfile.read(io.BytesIO(file), dtype="float32")

    assert read_back(read) == ("one", "Grüße, 你好")
    with pytest.raises(ValueError, match="no audio of the simulated device"):
        read_back(np.zeros(100, np.float32))


def test_simulated_batches_cost_what_the_formula_says() -> None:
    engine = simulated(base_ms=40, item_ms=5, padded_ms=100)
    batch = [utterance(engine, "a" * n) for n in (5, 10)]  # 0.3 s and 0.6 s of audio
    began = time.monotonic()
    engine.synthesize(batch)

    # 40 + 2 * 5 + 100 * 2 * 0.6: sleeping takes no less than it was told to.
    assert time.monotonic() - began >= 0.170


def test_simulated_memory_and_faults() -> None:
    engine = simulated(memory_s=1.0, faults={"boom": "raise", "nope": "refuse", "hush": "silent"})
    with pytest.raises(OutOfMemory):
        engine.synthesize([utterance(engine, "a" * 10)] * 2)
    with pytest.raises(FloatingPointError):
        engine.synthesize([utterance(engine, "boom")])
    (refused, silent) = engine.synthesize([utterance(engine, "nope"), utterance(engine, "hush")])

    assert isinstance(refused, RequestError)
    assert isinstance(silent, Speech)
    assert not silent.samples.any()


def apart(**device: object) -> Engine:
    groups = {"engine": {"name": "simulated", "apart": True}, "simulated": {"base_ms": 1} | device}
    engine = engines.create(load(overrides=groups))
    engine.warm_up()
    return engine


def test_an_engine_apart_refuses_and_fails_as_it_would_here() -> None:
    engine = apart(memory_s=1.0, faults={"boom": "raise", "nope": "refuse"})
    try:
        with pytest.raises(MemoryError):
            engine.synthesize([utterance(engine, "a" * 10)] * 2)
        with pytest.raises(RuntimeError, match="FloatingPointError"):
            engine.synthesize([utterance(engine, "boom")])
        (refused,) = engine.synthesize([utterance(engine, "nope")])
        assert isinstance(refused, RequestError)
        assert (refused.code, refused.field) == ("UNSUPPORTED_TEXT", "text")
    finally:
        engine.close()


def test_the_death_of_an_engine_apart_is_noticed_at_once() -> None:
    engine = apart(faults={"DEADLY": "kill"})
    with pytest.raises((EOFError, OSError)):
        engine.synthesize([utterance(engine, "DEADLY")])
    engine.close()
