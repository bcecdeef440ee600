"""What `--help` tells below the options: examples, environment, files. Lines of at most 76 characters."""

from typing import Any

ENVIRONMENT = {
    "RSEARCH_HOME": "folder of all indexes, where --home is not given",
    "RSEARCH_INDEX": "the index that is meant where none is named",
    "RSEARCH_THREADS": "threads of a scan, where --threads is not given",
    "RSEARCH_SERVICE": "off: no running `rsearch serve` is asked to do the work",
    "NOMIC_API_KEY": "key of Nomic's service; else what `nomic login` has kept",
    "ATLAS_API_PATH": "another address of Nomic's service, without a rate limit",
    "OPENAI_API_KEY": "key of an endpoint, unless --api-key-env names another",
    "OPENAI_BASE_URL": "address of the endpoint, where --base-url is not given",
    "HF_ENDPOINT": "another address of the dataset hub, such as a mirror",
    "HF_TOKEN": "token for datasets of the hub that want one",
    "HTTPS_PROXY": "proxy on the way to them; also ALL_PROXY and NO_PROXY",
    "RSEARCH_TOKEN": "token that callers of a service have to send",
    "BROWSER": "what --open opens an address with",
    "NO_COLOR": "no colours, if it is set",
}
"""The variables that commands read, and what for."""

_HOME = ("RSEARCH_HOME", "NO_COLOR")
_INDEX = ("RSEARCH_HOME", "RSEARCH_INDEX", "NO_COLOR")
_SERVICES = ("NOMIC_API_KEY", "ATLAS_API_PATH", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTPS_PROXY")
_SEARCH = ("RSEARCH_HOME", "RSEARCH_INDEX", "RSEARCH_THREADS", *_SERVICES, "NO_COLOR")
_BUILD = ("RSEARCH_HOME", *_SERVICES)
_HUB = ("HF_ENDPOINT", "HF_TOKEN")

READS: dict[str, tuple[str, ...]] = {
    "": ("RSEARCH_HOME", "RSEARCH_INDEX", "RSEARCH_THREADS", "NO_COLOR"),
    "build": _BUILD,
    "build wiki100k": (*_BUILD, *_HUB),
    "build wiki": (*_BUILD, *_HUB),
    "build hf": (*_BUILD, *_HUB),
    "build pydoc": _BUILD,
    "build files": _BUILD,
    "build vectors": ("RSEARCH_HOME", "OPENAI_BASE_URL"),
    "query": (*_SEARCH, "RSEARCH_SERVICE", "BROWSER"),
    "similar": (
        "RSEARCH_HOME",
        "RSEARCH_INDEX",
        "RSEARCH_THREADS",
        "RSEARCH_SERVICE",
        "BROWSER",
        "NO_COLOR",
    ),
    "bench": _SEARCH,
    "tune": _SEARCH,
    "eval": (*_SEARCH,),
    "serve": ("RSEARCH_HOME", "RSEARCH_INDEX", "RSEARCH_THREADS", "RSEARCH_TOKEN", *_SERVICES),
    "mcp": ("RSEARCH_HOME", "RSEARCH_INDEX", "RSEARCH_THREADS", *_SERVICES),
    "list": _HOME,
    "info": _INDEX,
    "add": _BUILD,
    "delete": ("RSEARCH_HOME",),
    "compact": ("RSEARCH_HOME", "RSEARCH_INDEX"),
    "export": ("RSEARCH_HOME",),
    "remove": ("RSEARCH_HOME",),
    "verify": _INDEX,
    "repair": ("RSEARCH_HOME", "RSEARCH_INDEX"),
    "warm": ("RSEARCH_HOME",),
    "doctor": ("RSEARCH_HOME", "RSEARCH_THREADS", *_SERVICES, *_HUB),
    "config": ("RSEARCH_HOME", "RSEARCH_INDEX", "RSEARCH_THREADS", "OPENAI_BASE_URL"),
}
"""The variables that each command reads."""

EXAMPLES: dict[str, str] = {
    "": """
        rsearch build pydoc
            Build an index of your Python's own documentation: no key, no hub.
        rsearch query "walk a directory tree" --dim 256 --rerank 10
            Scan 256 dimensions, rerank 100 candidates at the full one.
        rsearch bench --dims 768,512,256
            Measure what each dimension costs and loses on your own data.
        rsearch --install-completion
            Have the shell complete commands, indexes, dimensions and ids.
        """,
    "build": """
        rsearch build files notes/ papers/*.pdf --chunk 400 --embedder lsa
        rsearch build wiki100k --dry-run
        rsearch build hf rajpurkar/squad --text-column context --limit 20000
        """,
    "build wiki100k": """
        rsearch build wiki100k --dry-run
            Tell requests, tokens, minutes and bytes before anything is paid.
        rsearch build wiki100k --limit 3000
            The first 3,000 articles; a larger --limit extends the index later.
        rsearch build wiki100k --embedder openai --model nomic-embed-text \\
                --base-url http://localhost:11434/v1
            Embed at this machine's own Ollama.
        """,
    "build wiki": """
        rsearch build wiki --lang simple --limit 50000
        rsearch build wiki --lang de --limit 10000 --embedder lsa --name wiki-lsa
        """,
    "build hf": """
        rsearch build hf rajpurkar/squad --text-column context --metadata title
        rsearch build hf rajpurkar/squad --text-column context \\
                --limit 20000 --shuffle-seed 0
            A random sample over the whole split.
        """,
    "build pydoc": """
        rsearch build pydoc
        rsearch build pydoc --embedder nomic --name pydoc-nomic --dims 64,256,768
        """,
    "build files": """
        rsearch build files notes/ papers/*.pdf --chunk 400
            Folders, files and patterns, in chunks of 400 tokens.
        rsearch build files talks.csv --text-column abstract --metadata year,room
            A row of a table is a document.
        psql … | rsearch build files - --name tickets
            JSON lines from a pipe.
        """,
    "build vectors": """
        rsearch build vectors FILE.npy --documents FILE.jsonl
        rsearch build vectors FILE.npy --model nomic-embed-text-v1.5 --name mine
            Say what made the vectors, so that texts may be asked.
        """,
    "query": """
        rsearch query "tree data structures" --dim 256 --rerank 10
            Scan 256 dimensions, rerank 10 x k candidates at the full one.
        rsearch query "tree data structures" --where "title GLOB 'B*'"
            Only documents of which this is true.
        rsearch query "tree data structures" --recall 0.99 --explain
            The fastest plan proven on this index, and what its stages did.
        rsearch query
            A prompt: texts to look for, `:dim 64` and `:help`.
        rsearch query - --json < questions.txt
            One question a line in, one JSON object a line out.
        """,
    "similar": """
        rsearch similar 12 --where "title GLOB 'B*'"
        rsearch similar docs/format.md -i docs --fields id,title,score
        """,
    "bench": """
        rsearch bench --dims 768,512,256 --rerank 10
            Each dimension alone, and with a rerank of 10 x k.
        rsearch bench --dims 768 --batch 1,32,1000 --threads 1,2
            Many queries a call, more threads.
        rsearch bench --dims 256 --rerank 10 --min-recall 0.95
            For CI: exit code 1 if the mean overlap is below.
        """,
    "tune": """
        rsearch tune --recall 0.99
        rsearch query "tree data structures" --recall 0.99
            Measured once, used from then on.
        rsearch tune --recall 0.95 --queries questions.txt -k 5
        rsearch tune --show
        """,
    "eval": """
        rsearch eval scifact --dims 768,256,64 --rerank 10
            A folder in BEIR's layout: its corpus is built once, then judged.
        rsearch eval --index notes --queries questions.tsv --qrels judged.tsv
            An index that there is, by judgements of your own.
        """,
    "serve": """
        rsearch serve
            The page is at http://127.0.0.1:8765, the API's description at /docs.
        curl -s http://127.0.0.1:8765/api/search -H 'Content-Type: application/json' \\
          -d '{"query": "tree data structures", "dim": 256, "rerank": 10}'
        rsearch serve --host 0.0.0.0 --allow-remote --token-file token.txt
            For other machines, which have to send the token in that file.
        """,
    "mcp": """
        {"mcpServers": {"rsearch": {"command": "rsearch", "args": ["mcp"]}}}
            What goes into an assistant's configuration; most have it as JSON.
        rsearch mcp --index notes --home /srv/indexes
            One index of another home: in "args", each word by itself.
        """,
    "list": """
        rsearch list
        rsearch list --json --home /srv/indexes
        """,
    "info": """
        rsearch info wiki100k
        rsearch info ./wiki100k --json
        """,
    "add": """
        rsearch add notes new.md more/ talks.jsonl
            Files and folders, read as the index has its own.
        rsearch add pydoc notes.jsonl
        rsearch add pydoc more.parquet --replace
        """,
    "delete": """
        rsearch delete pydoc notes/csv notes/json --dry-run
        rsearch delete talks --where "year < 1990"
        cut -f1 old.tsv | rsearch delete pydoc - --missing-ok --yes
        """,
    "compact": """
        rsearch compact pydoc
        """,
    "export": """
        rsearch export wiki100k wiki100k.parquet
        rsearch export wiki100k wiki-dataset/ --to datasets
        rsearch export wiki100k wiki-faiss/ --to faiss-pq --dim 256
            Each is checked with the library that reads it.
        """,
    "remove": """
        rsearch remove pydoc
        rsearch remove pydoc --yes
            Without being asked, as a script needs it.
        """,
    "verify": """
        rsearch verify wiki100k
        rsearch verify wiki100k --full --json
        """,
    "repair": """
        rsearch verify wiki100k || rsearch repair wiki100k
        """,
    "warm": """
        rsearch warm
            Compile the kernels, after an upgrade or on a new machine.
        rsearch warm wiki100k
            Derive its int8 tiers and sign bits too.
        """,
    "doctor": """
        rsearch doctor
        rsearch doctor --json
        """,
    "config": """
        rsearch config
            Every setting, its value, and where that is said.
        rsearch config set query.dim 256
        rsearch config set build.embedder lsa --project
            In the pyproject.toml of this project.
        rsearch config get query.dim
        rsearch config unset query.dim
        """,
}
"""How each command is used: commands, and below them, further in, what they are for."""

PANELS = {
    "Which index": ("index", "name", "home"),
    "Who may ask": ("host", "port", "allow_remote", "token_file", "allow_host", "cors"),
    "How to search": ("k", "dim", "rerank", "plan", "recall", "where", "group", "threads", "engine"),
    "What is measured": ("dims", "precisions", "batch", "cold", "queries", "sample", "seed", "min_recall"),
    "What is printed": ("format", "json", "csv", "fields", "snippet", "min_score", "open", "explain", "plot"),
    "Embedder": ("embedder", "model", "base_url", "api_key_env", "document_prefix", "query_prefix"),
    "Texts": ("text_column", "id_column", "title_column", "url_column", "metadata", "chunk", "chunk_overlap"),
}
"""The options of a command that has many, in groups; others stay under Options."""

MANY = 8

_CODES = {
    "serve": "0 also after SIGTERM, once what was under way is answered",
    "mcp": "0 once stdin ends, or after SIGTERM",
    "bench": "1 also if --min-recall is missed",
    "verify": "1 also if a file is not as it was written",
    "doctor": "1 also if anything is not in order",
    "build": "130 also if a build was stopped: what it had is safe",
    "config": "1 also if `get` finds that nothing says a setting",
}


def grouped(command: Any) -> Any:
    """The command with its options, and those of the commands below it, in their panels."""
    for below in getattr(command, "commands", {}).values():
        grouped(below)
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    if len(options) > MANY:
        for option in options:
            named = [title for title, names in PANELS.items() if option.name in names]
            if option.name == "dims" and command.name != "bench":
                named = []  # which a build stores
            option.rich_help_panel = named[0] if named else option.rich_help_panel
    return command


def epilog(command: str) -> str:
    """What stands below the options of a command, as typer takes it: rich's markup, lines as they are."""
    shown = "\n".join(
        line.removeprefix(" " * 6).rstrip() for line in EXAMPLES[command].strip("\n").splitlines()
    )
    width = max(map(len, READS[command]))
    variables = "\n".join(f"  {name.ljust(width)}  {_cut(name, width)}" for name in READS[command])
    codes = "0 done · 1 an error, told in one line · 2 wrong usage · 130 Ctrl-C"
    if also := _CODES.get(command.split(" ")[0]):
        codes += f"\n  {also}"
    files = (
        "Defaults of options may be said in rsearch.toml of the home and in\n"
        "  [tool.rsearch] of a pyproject.toml: see `rsearch config --help`."
    )
    sections = {"Examples": shown.strip("\n"), "Environment": variables, "Files": f"  {files}"}
    if command in ("config", "doctor"):
        del sections["Files"]
    sections["Exit codes"] = f"  {codes}"
    return "\n\n".join(
        f"[bold]{title}[/bold]\n{text.replace('[', chr(92) + '[')}" for title, text in sections.items()
    )


def _cut(name: str, width: int) -> str:
    return ENVIRONMENT[name].replace("; else", f";\n{' ' * (width + 4)}else")
