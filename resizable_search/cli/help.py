"""Each command: its module and examples; environment variables and exit codes."""

import inspect
import re
import textwrap
from typing import Any

from resizable_search.text import command_line, flag

COMMANDS = {
    "build": "build.app",
    "query": "query.query",
    "similar": "query.similar",
    "bench": "evaluate.bench",
    "tune": "tune.tune",
    "eval": "evaluate.evaluate",
    "serve": "serve.serve",
    "mcp": "serve.mcp",
    "list": "indexes.list_indexes",
    "info": "indexes.info",
    "update": "update.update",
    "add": "update.add",
    "delete": "update.delete",
    "compact": "update.compact",
    "merge": "update.merge",
    "export": "indexes.export",
    "remove": "indexes.remove",
    "verify": "indexes.verify",
    "repair": "indexes.repair",
    "warm": "indexes.warm",
    "doctor": "indexes.doctor",
    "config": "config.app",
}
"""Each command, in the order of use: its module of this package, and its function or group there."""

OTHER_NAMES = {"search": "query", "find": "query", "index": "build", "rm": "remove", "sync": "update"}
OTHER_NAMES |= {"show": "info", "status": "info"}  # what other programs call our commands

ENVIRONMENT = {  # the variables, and what each is for
    "RSEARCH_HOME": "folder of all indexes; else the user's data folder",
    "RSEARCH_INDEX": "default index; else wiki100k, else the only one",
    "RSEARCH_THREADS": "default of --threads; else all cores",
    "RSEARCH_SERVICE": "off: do not ask a running `rsearch serve`",
    "RSEARCH_TOKEN": "token that clients of `rsearch serve` send",
    "NOMIC_API_KEY": "key of Nomic's service; else that of `nomic login`",
    "ATLAS_API_PATH": "another URL of Nomic's service, without rate limit",
    "OPENAI_API_KEY": "key of the endpoint; --api-key-env names another",
    "OPENAI_BASE_URL": "default of --base-url",
    "HTTPS_PROXY": "proxy to these; also ALL_PROXY and NO_PROXY",
    "HF_ENDPOINT": "another URL of the dataset hub, such as a mirror",
    "HF_TOKEN": "token for protected datasets of the hub",
    "NUMBA_CACHE_DIR": "folder of the compiled kernels; else one that is writable",
    "XDG_CONFIG_HOME": "folder of git/ignore; else ~/.config",
    "BROWSER": "browser for --open",
    "NO_COLOR": "if set, print without colours",
    "FORCE_COLOR": "if set, print as on a terminal",
    "COLUMNS": "width of a terminal",
    "TERM": "dumb: print without colours and links",
}

EXAMPLES: dict[str, str] = {
    "": """
        rsearch build pydoc
            Index your Python's own documentation: needs no key and no network.
        rsearch query "walk a directory tree" --dim 256 --rerank 10
            Scan 256 dimensions, rerank 100 candidates at the full dimension.
        rsearch bench --dims 768,512,256
            Measure speed and overlap of each dimension on your data.
        rsearch --install-completion
            Complete commands, indexes and dimensions in your shell.
        """,
    "build": "rsearch build files notes/ papers/*.pdf --exclude drafts/",
    "build wiki100k": """
        rsearch build wiki100k --embedder openai --model nomic-embed-text \\
                --base-url http://localhost:11434/v1
            Embed with Ollama on this machine.
        """,
    "build wiki": "rsearch build wiki --lang de --limit 10000 --embedder nomic-local",
    "build hf": "rsearch build hf rajpurkar/squad --text-column context --limit 20000",
    "build pydoc": "rsearch build pydoc --embedder nomic --name pydoc-nomic --dims 64,256,768",
    "build files": """
        rsearch build files talks.csv --text-column abstract --metadata year,room
            Index each row of a table.
        psql … | rsearch build files - --name tickets
            Index JSON lines from a pipe.
        """,
    "build vectors": """
        rsearch build vectors FILE.npy --documents FILE.jsonl
        rsearch build vectors FILE.npy --model nomic-embed-text-v1.5 --name mine
        """,
    "query": """
        rsearch query "tree data structures" --dim 256 --rerank 10
            Scan 256 dimensions, rerank 10 x max(k, 10) candidates at the full one.
        rsearch query "tree data structures" --recall 0.99 --explain
            Use the fastest plan proven on this index, and show its stages.
        rsearch query - --json < questions.txt
            Read one query a line, print one JSON object a line.
        """,
    "similar": "rsearch similar docs/format.md -i docs --fields id,title,score",
    "bench": """
        rsearch bench --dims 256 --rerank 10 --min-recall 0.95
            For CI: exit with 1 if the mean overlap is lower.
        """,
    "tune": """
        rsearch tune --recall 0.99
            `rsearch query … --recall 0.99` then uses the plan.
        rsearch tune --mode
            Measure whether words should count by default.
        """,
    "eval": """
        rsearch eval scifact --dims 768,256,64 --rerank 10
            Index the corpus of a BEIR folder once, then evaluate.
        rsearch eval --index notes --queries questions.tsv --qrels judged.tsv
            Evaluate an existing index with your own judgements.
        """,
    "serve": """
        rsearch serve
        curl "http://127.0.0.1:8765/api/v1/search?q=tree+data+structures&dim=256"
        rsearch serve --host 0.0.0.0 --allow-remote --token-file token.txt
            Serve other machines, which must send the token.
        """,
    "mcp": """
        {"mcpServers": {"rsearch": {"command": "rsearch", "args": ["mcp"]}}}
            Put this into the configuration of an assistant.
        """,
    "list": "rsearch list --json --home /srv/indexes",
    "info": "rsearch info ./wiki100k --json",
    "update": "rsearch update notes --dry-run",
    "add": "rsearch add notes new.md more/ talks.jsonl --replace",
    "delete": """
        rsearch delete pydoc notes/csv notes/json --dry-run
        rsearch delete talks --where "year < 1990"
        """,
    "compact": "rsearch compact pydoc",
    "merge": """
        rsearch build files notes/ --shard 1/2
        rsearch build files notes/ --shard 2/2
        rsearch merge notes notes-1-of-2 notes-2-of-2
        """,
    "export": "rsearch export wiki100k wiki-faiss/ --to faiss-pq --dim 256",
    "remove": "rsearch remove pydoc --yes",
    "verify": "rsearch verify wiki100k --full --json",
    "repair": "rsearch verify wiki100k || rsearch repair wiki100k",
    "warm": "rsearch warm wiki100k",
    "doctor": "rsearch doctor --json",
    "config": "rsearch config set query.rerank 10",
}
"""Examples of each command, and below them, indented, what they do. Lines of at most 76 characters."""

CLUSTER = ("ray", "workers", "gpus_per_worker", "resources")  # options of commands that embed on a cluster

PANELS = {
    "Index": "index index_option name home",
    "Access": "host port allow_remote token_file allow_host cors",
    "Search": "k dim rerank plan mode recall where group threads engine",
    "Measurement": "dims precisions batch cold queries qrels split measures sample titles seed min_recall",
    "Output": "format json csv fields snippet min_score open explain plot per_query runs",
    "Cluster": " ".join((*CLUSTER, "partial")),
    "Embedder": "embedder model base_url api_key_env encoding_format document_prefix query_prefix",
    "Texts": "text_column id_column title_column url_column metadata chunk chunk_overlap include exclude "
    "input_format delimiter encoding",
}
"""Groups of options in the help of a command with more than MANY; the others are under Options."""

MANY = 8


def describe(command: Any, path: str) -> Any:
    """Give a command, and those below it, their epilogs, and their options in panels."""
    if path in EXAMPLES:
        command.epilog = epilog(path)
    for name, below in getattr(command, "commands", {}).items():
        describe(below, f"{path} {name}")
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    if len(options) > MANY:
        for option in options:
            panels = [title for title, names in PANELS.items() if option.name in names.split()]
            if panels and (option.name != "dims" or path in ("bench", "eval")):  # others are those of a build
                option.rich_help_panel = panels[0]
    return command


def epilog(path: str) -> str:
    """The text below the options of a command, in rich's markup. The first page has what all share."""
    sections = {"Examples": inspect.cleandoc(EXAMPLES[path]).replace("[", "\\[")}
    if path:
        sections["More"] = "`rsearch --help` has environment variables, files and exit codes."
    else:
        width = max(map(len, ENVIRONMENT))
        sections |= {
            "Environment": "\n".join(f"{name:<{width}}  {words}" for name, words in ENVIRONMENT.items()),
            "Files": "rsearch.toml and pyproject.toml set defaults: see `rsearch config --help`.",
            "Exit codes": "0 done · 1 error or failed check · 2 wrong usage · 130 stopped by Ctrl-C",
        }
    return "\n\n".join(
        f"[bold]{title}[/bold]\n{textwrap.indent(text, '  ')}" for title, text in sections.items()
    )


_NAMED = re.compile(r"`([a-z]+(?:_[a-z]+)*)(=[^`\s]+)?((?: [^`]*)?)`")


def with_flags(message: str) -> str:
    """A message of the library in words of the command line.

    The library names options and commands in backquotes: `restart` becomes --restart, `rate=60` becomes
    `--rate 60`, and `tune index=wiki k=20` becomes `rsearch tune --index wiki -k 20`. A command with
    `restart` becomes one that is ready to be copied.
    """
    return _NAMED.sub(_as_typed, message).replace("` with --restart", " --restart`")


def _as_typed(match: re.Match[str]) -> str:
    name, value, rest = match[1], match[2], match[3]
    if name in COMMANDS:
        return f"`{command_line(name + rest)}`"
    if rest:
        return match[0]  # a command of somebody else: `ulimit -n 1024`
    return f"`{flag(name)} {value[1:]}`" if value else flag(name)
