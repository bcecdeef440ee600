"""Corpora that have a name of their own, so that `rsearch build wiki100k` is enough."""

from dataclasses import dataclass

from resizable_search.corpora.hub import DEFAULT_CHARS, HubCorpus
from resizable_search.progress import SILENT, Progress

WIKIPEDIA = "wikimedia/wikipedia"
WIKIPEDIA_REVISION = "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"
"""The commit of `WIKIPEDIA` that the presets read, so that everyone's wiki100k is the same."""
WIKIPEDIA_DATE = "20231101"
WIKIPEDIA_LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class Preset:
    """A dataset of the hub with the options that a name stands for.

    `limit` is the number of documents to index (None: all of them), `chars` the text cut in
    characters (None: no cut).
    """

    name: str
    summary: str
    repo: str
    config: str | None
    revision: str | None
    split: str = "train"
    limit: int | None = None
    chars: int | None = DEFAULT_CHARS

    def corpus(self, *, progress: Progress = SILENT) -> HubCorpus:
        """The corpus that the preset describes; nothing is read yet."""
        return HubCorpus(
            repo=self.repo,
            config=self.config,
            split=self.split,
            revision=self.revision,
            chars=self.chars,
            progress=progress,
        )


def wiki100k(*, chars: int | None = DEFAULT_CHARS) -> Preset:
    """The first 100,000 articles of English Wikipedia, the first `chars` characters of each."""
    return Preset(
        name="wiki100k",
        summary="the first 100,000 articles of English Wikipedia",
        repo=WIKIPEDIA,
        config=f"{WIKIPEDIA_DATE}.{WIKIPEDIA_LANGUAGE}",
        revision=WIKIPEDIA_REVISION,
        limit=100_000,
        chars=chars,
    )


def wiki(
    *, lang: str = WIKIPEDIA_LANGUAGE, date: str = WIKIPEDIA_DATE, chars: int | None = DEFAULT_CHARS
) -> Preset:
    """All of a Wikipedia: its language code ('en', 'simple', 'de') and the dump's date ('20231101')."""
    return Preset(
        name="wiki",
        summary=f"all of Wikipedia in one language ({lang})",
        repo=WIKIPEDIA,
        config=f"{date}.{lang}",
        revision=WIKIPEDIA_REVISION,
        chars=chars,
    )


PRESETS: dict[str, Preset] = {preset.name: preset for preset in (wiki100k(), wiki())}
"""Every preset by its name, with its defaults."""
