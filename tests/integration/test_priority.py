"""What is on the priority topic is served first, and what is not is served all the same."""

from tests.engines import ScriptedEngine
from tests.integration.mill import Mill
from tests.waiting import eventually


def test_urgent_requests_overtake_a_full_window(mill: Mill) -> None:
    engine = ScriptedEngine(max_batch=1)
    engine.gate.clear()
    running = mill.start(engine, worker={"window_requests": 16})
    for number in range(40):
        mill.ask(f"Bulk {number}.")
    eventually(lambda: running.worker.paused, "the window to be full")
    for number in range(4):
        mill.ask(f"Urgent {number}.", urgent=True)
    eventually(lambda: running.worker.waiting == 19, "the urgent ones to wait for the device")
    engine.gate.set()

    mill.completions(44)

    # One was on the device when they came.
    assert {text.split()[0] for text in engine.spoken[1:5]} == {"Urgent"}
    assert len(engine.spoken) == 44


def test_all_is_committed_on_both_topics(mill: Mill) -> None:
    mill.start(ScriptedEngine())
    for number in range(20):
        mill.ask(f"Number {number}.", urgent=number % 2 == 0)
    mill.completions(20)

    eventually(lambda: mill.committed() == 10, "the ordinary ones to be committed")
    eventually(lambda: mill.committed(mill.settings.kafka.priority) == 10, "the urgent ones, too")
