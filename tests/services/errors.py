"""What can go wrong with a test service.

Exception
├── ProvisionError   it can't be had: a download, a build or a checksum failed
└── ServiceError     it was had, but did not start, or died
"""


class ProvisionError(Exception):
    """A service's files could not be fetched, built or verified."""


class ServiceError(Exception):
    """A service did not come up, or ended by itself; the message ends with its log's tail."""
