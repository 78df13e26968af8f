"""The embedded parts: a Kafka-protocol broker and an S3 endpoint that come with pip.

For a first try, the demo and the tests. README, "What the embedded parts can't promise", says why
they are no substitute for Apache Kafka and an S3 server.
"""
