"""What a commit means to whoever counts."""

from collections.abc import Iterable

from rindle.observability.observer import Observer
from rindle.uploads.model import EventType, Upload


def tell(observer: Observer, upload: Upload, events: Iterable[EventType]) -> None:
    """Say that these events were recorded of the upload as it now is. For repositories, once for each commit."""
    for event in events:
        match event:
            case EventType.CREATED:
                observer.upload_created()
            case EventType.FINISHED:
                observer.upload_finished()
            case EventType.TERMINATED:
                observer.upload_terminated("client")
            case EventType.EXPIRED:
                observer.upload_expired()
            case EventType.FAILED:
                observer.upload_terminated((upload.reason or "").partition(":")[0])
