"""The text of PDF files, page by page; needs the extra `pdf`."""

import io
import logging
import warnings

from resizable_search.corpora.files.decoding import cleaned
from resizable_search.corpora.files.opening import UnreadableError

_PAGE_BREAK = "\n\n"


def pdf_text(data: bytes) -> tuple[str, list[int], str]:
    """The text of all pages, where each page begins in it, and the title that the file says it has.

    Raises UnreadableError for a file that is damaged, needs a password or has no text.
    """
    try:
        import pypdf
    except ImportError:
        raise UnreadableError("PDF needs `pip install 'resizable_search[pdf]'`") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells every flaw of a file on stderr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader = pypdf.PdfReader(io.BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise UnreadableError("it needs a password")
            pages = [cleaned(page.extract_text()) for page in reader.pages]
            title = cleaned(str((reader.metadata and reader.metadata.title) or "")).strip()
        except UnreadableError:
            raise
        # A damaged file fails anywhere in it, with whatever Python raises there.
        except Exception as error:
            words = " ".join(str(error).split())[:100]
            raise UnreadableError(f"it cannot be read as PDF ({words or type(error).__name__})") from None
    if not any(page.strip() for page in pages):
        raise UnreadableError(f"its pages ({len(pages):,}) have no text: they may be scanned")
    starts, length = [], 0
    for page in pages:
        starts.append(length)
        length += len(page) + len(_PAGE_BREAK)
    return _PAGE_BREAK.join(pages), starts, title
