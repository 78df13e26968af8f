"""Ways in: what a producer of text events imports.

::

    from producers import SpeechProducer, make_request

    with SpeechProducer(follow=True) as producer:
        submission = producer.submit(make_request("Good morning."))
        print(submission.completion.result(timeout=60).audio.key)
"""

from producers.client import ProducerBusy, ProducerClosed, SpeechProducer, Submission, make_request
from producers.completions import CompletionReader

__all__ = [
    "CompletionReader",
    "ProducerBusy",
    "ProducerClosed",
    "SpeechProducer",
    "Submission",
    "make_request",
]
