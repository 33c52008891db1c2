"""JSON logs on one stream: events with fields, never message text, titles, file contents, tokens or keys."""

import logging
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog

_ROOT = f"{Path(__file__).parent.parent}/"
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


def configure(level: str = "INFO", *, stream: TextIO = sys.stdout) -> None:
    """Write our events, and libraries' warnings, to `stream` as one JSON object per line.

    Code binds request_id, user_id, conversation_id, run_id and tool_name as context variables where it knows them.
    Every event logged while a variable is bound includes it.
    """
    stamps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _traceback_without_values,
    ]
    structlog.configure(
        processors=[*stamps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *stamps],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Below WARNING, libraries log whole requests and answers. Of the INFO lines, only uvicorn's own are logged, such as
    # those about its start and stop.
    root.setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("backend").setLevel(LEVELS[level])
    logging.getLogger("uvicorn.error").setLevel(max(LEVELS[level], logging.INFO))
    # Anybody can send invalid HTTP as often as they like, so it is not logged. The metrics count it.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != "Invalid HTTP request received.")
    for name in ("mcp", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # The Agents SDK and LiteLLM log prompts and tool data even at ERROR.
    logging.getLogger("openai.agents").setLevel(logging.CRITICAL)
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)


def _traceback_without_values(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replace exc_info with the exception's type and source lines.

    The message is dropped, because it may quote row data.
    """
    info = event.pop("exc_info", None)
    if info:
        error = info if isinstance(info, BaseException) else sys.exc_info()[1] if info is True else info[1]
        if error is not None:
            places, trace = [], error.__traceback__
            while trace is not None:
                code = trace.tb_frame.f_code
                file = code.co_filename.removeprefix(_ROOT).rsplit("site-packages/", 1)[-1]
                places.append(f"{file}:{trace.tb_lineno} {code.co_name}")
                trace = trace.tb_next
            ours = [place for place in places[:-4] if place.startswith("backend/")]
            event["exception"] = type(error).__name__
            event["trace"] = ours[-12:] + places[-4:]
    return event
