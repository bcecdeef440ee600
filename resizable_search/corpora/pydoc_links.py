"""Where on the web the documentation of a name of the standard library stands.

The library reference has a page for most public modules, under the module's own name or shared with
its neighbours. What has no page there is linked to its line in CPython's source.
"""

import builtins

SITE = "https://docs.python.org"
SOURCE = "https://github.com/python/cpython/blob"

_OWN_PAGE_NAMES = """
    __future__ __main__ _thread abc aifc annotationlib argparse array ast asynchat asyncio asyncore atexit
    audioop base64 bdb binascii bisect builtins bz2 calendar cgi cgitb chunk cmath cmd code codecs codeop
    collections collections.abc colorsys compileall compression.zstd concurrent.futures
    concurrent.interpreters configparser contextlib contextvars copy copyreg crypt csv ctypes curses
    curses.ascii curses.panel dataclasses datetime dbm decimal difflib dis doctest email email.charset
    email.contentmanager email.encoders email.errors email.generator email.header email.headerregistry
    email.iterators email.message email.mime email.parser email.policy email.utils ensurepip enum errno
    faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc getopt getpass gettext glob
    graphlib grp gzip hashlib heapq hmac html html.entities html.parser http http.client http.cookiejar
    http.cookies http.server imaplib imghdr imp importlib importlib.metadata importlib.resources
    importlib.resources.abc inspect io ipaddress itertools json keyword linecache locale logging
    logging.config logging.handlers lzma mailbox mailcap marshal math mimetypes mmap modulefinder msilib
    msvcrt multiprocessing multiprocessing.shared_memory netrc nis nntplib numbers operator optparse os
    os.path ossaudiodev pathlib pdb pickle pickletools pipes pkgutil platform plistlib poplib pprint
    profile pty pwd py_compile pyclbr pydoc queue quopri random re readline reprlib resource rlcompleter
    runpy sched secrets select selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket
    socketserver spwd sqlite3 ssl stat statistics string string.templatelib stringprep struct subprocess
    sunau symtable sys sys.monitoring sysconfig syslog tabnanny tarfile telnetlib tempfile termios
    textwrap threading time timeit tkinter tkinter.colorchooser tkinter.dnd tkinter.font
    tkinter.messagebox tkinter.scrolledtext tkinter.tix tkinter.ttk token tokenize tomllib trace traceback
    tracemalloc tty turtle types typing unicodedata unittest unittest.mock urllib urllib.error
    urllib.parse urllib.request urllib.robotparser uu uuid venv warnings wave weakref webbrowser winreg
    winsound wsgiref xdrlib xml xml.dom xml.dom.minidom xml.dom.pulldom xml.sax xml.sax.handler xmlrpc
    xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib zoneinfo
"""
_OWN_PAGE = frozenset(_OWN_PAGE_NAMES.split())

_SHARED_PAGE = {
    module: page
    for page, modules in {
        "codecs": "encodings encodings.idna encodings.mbcs encodings.utf_8_sig",
        "curses": "curses.textpad",
        "dbm": "dbm.dumb dbm.gnu dbm.ndbm dbm.sqlite3",
        "dialog": "tkinter.commondialog tkinter.filedialog tkinter.simpledialog",
        "email.mime": "email.mime.application email.mime.audio email.mime.base email.mime.image"
        " email.mime.message email.mime.multipart email.mime.nonmultipart email.mime.text",
        "importlib": "importlib.abc importlib.machinery importlib.util",
        "json": "json.tool",
        "multiprocessing": "multiprocessing.connection multiprocessing.dummy multiprocessing.managers"
        " multiprocessing.pool multiprocessing.sharedctypes",
        "profile": "cProfile pstats",
        "pyexpat": "xml.parsers.expat",
        "urllib.request": "urllib.response",
        "wsgiref": "wsgiref.handlers wsgiref.headers wsgiref.simple_server wsgiref.types wsgiref.util"
        " wsgiref.validate",
        "xml.etree.elementtree": "xml.etree.ElementTree xml.etree.ElementInclude",
        "xml.sax.reader": "xml.sax.xmlreader",
        "xml.sax.utils": "xml.sax.saxutils",
    }.items()
    for module in modules.split()
}

_ASYNCIO_PAGE = {
    f"asyncio.{part}": f"asyncio-{page}"
    for page, parts in {
        "eventloop": "base_events events proactor_events selector_events unix_events windows_events",
        "exceptions": "exceptions",
        "future": "futures",
        "graph": "graph",
        "protocol": "protocols transports",
        "queue": "queues",
        "runner": "runners",
        "stream": "streams",
        "subprocess": "subprocess",
        "sync": "locks",
        "task": "coroutines taskgroups tasks threads timeouts",
    }.items()
    for part in parts.split()
}
"""asyncio's page is an index: the part that defines a name tells which of its pages describes it."""

_STANDARD_TYPES = {
    "bytearray",
    "bytes",
    "dict",
    "frozenset",
    "list",
    "memoryview",
    "range",
    "set",
    "str",
    "tuple",
}
_NUMBERS = {"int", "float", "complex"}
"""They stand among the functions; their methods among the types."""

_TOPIC_PAGE = {
    label: page
    for page, labels in {
        "library/pdb": "debugger",
        "library/stdtypes": "bltin-code-objects bltin-ellipsis-object bltin-null-object bltin-type-objects"
        " specialattrs string-methods truth typesfunctions typesmapping typesmethods typesmodules typesseq"
        " typesseq-mutable",
        "library/string": "formatstrings",
        "reference/compound_stmts": "async class compound else for function if try while with",
        "reference/datamodel": "attribute-access callable-types context-managers customization numeric-types"
        " objects sequence-types specialnames types",
        "reference/executionmodel": "dynamic-features exceptions execmodel naming",
        "reference/expressions": "assignment-expressions atom-identifiers atom-literals attribute-references"
        " await binary bitwise booleans calls comparisons conversions dict exprlists in lambda lists"
        " operator-summary power shifting slicings subscriptions unary",
        "reference/lexical_analysis": "floating id-classes identifiers imaginary integers numbers strings",
        "reference/simple_stmts": "assert assignment augassign break continue del global import nonlocal pass"
        " raise return yield",
    }.items()
    for label in labels.split()
}


def is_documented(module: str) -> bool:
    """Whether the library reference describes the module, on a page of its own or a shared one."""
    return module in _OWN_PAGE or module in _SHARED_PAGE


def library_url(python: str, module: str, name: str, *, origin: str) -> str:
    """The page of `name` (empty: of the module itself), a name of a documented module.

    `origin` is the module that defines it.
    """
    if not name:
        page, anchor = _page(module), f"module-{module}"
    else:
        owner, _, member = name.rpartition(".")
        anchor = owner if member in ("__init__", "__new__") else name
        if module == "builtins":
            page = _builtin_page(name)
        else:
            page = _ASYNCIO_PAGE.get(origin) or _page(module)
            anchor = f"{module}.{anchor}"
    return f"{SITE}/{_minor(python)}/library/{page}.html#{anchor}"


def source_url(python: str, path: str, line: int) -> str:
    """A line of a file of the standard library, as it was in that version."""
    return f"{SOURCE}/v{python.rstrip('+')}/Lib/{path}#L{line}"


def index_url(python: str) -> str:
    """The library reference's list of pages, for what has neither a page nor a source file."""
    return f"{SITE}/{_minor(python)}/library/index.html"


def topic_url(python: str, label: str) -> str:
    """The section that a help topic was taken from; an unknown one leads to the language reference."""
    page = _TOPIC_PAGE.get(label)
    return f"{SITE}/{_minor(python)}/" + (f"{page}.html#{label}" if page else "reference/index.html")


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _page(module: str) -> str:
    return _SHARED_PAGE.get(module, module)


def _builtin_page(name: str) -> str:
    top, dot, _ = name.partition(".")
    value = getattr(builtins, top, None)
    if isinstance(value, type) and issubclass(value, BaseException):
        return "exceptions"
    if top in _STANDARD_TYPES or (top in _NUMBERS and dot):
        return "stdtypes"
    return "functions"
