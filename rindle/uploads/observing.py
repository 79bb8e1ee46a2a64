"""What commits and calls of the store mean to whoever counts."""

from collections.abc import Iterable

from rindle.objectstore.wrappers.meter import Meter, StoreCall
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


def meter_for(observer: Observer) -> Meter:
    """What to tell a metered store, so that the observer hears of its calls."""

    def tell_call(call: StoreCall) -> None:
        observer.store_called(call.operation, seconds=call.seconds, error=call.error)

    return tell_call
