"""`rsearch build`, whole: what it makes indexes of, a command each."""

from resizable_search.cli import build_files, build_hf
from resizable_search.cli import help as manual
from resizable_search.cli.build import app

app.command("files", epilog=manual.epilog("build files"))(build_files.files)
app.command("hf", epilog=manual.epilog("build hf"))(build_hf.hf)
