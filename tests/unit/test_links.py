"""Every relative link of every page leads to a file that is there, and every anchor to a heading."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "contrib/**/*.md", "tests/**/*.md", "rootless/**/*.md", "oci/**/*.md")
    for page in sorted(CHECKOUT.glob(pattern))
]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub and mkdocs make them: lower case, blanks become dashes, the rest is
    dropped.
    """
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()) for title in titles]
    return {re.sub(r" ", "-", title) for title in plain}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links(page: Path) -> None:
    assert not broken(page)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# One thing, and `another`\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md#one-thing-and-another) [b](nowhere.md) [c](there.md#no) [d](https://example.org/x)\n")
    assert broken(page) == ["nowhere.md", "there.md#no"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_no_line_of_a_drawing_is_cut_short(page: Path) -> None:
    """No statement has a semicolon, where Mermaid would end it and show an error in place of the picture."""
    drawings = re.findall(r"```mermaid\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for drawing in drawings for line in drawing.splitlines() if ">>" in line or "Note over" in line]
    assert not [line for line in lines if ";" in line]


def missing_files(page: Path) -> list[str]:
    """Return the files of the checkout that a page names in code marks and that do not exist.

    Capitals stand for any name.
    """
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    named = re.findall(r"`((?:rootless|oci|tests|scripts|contrib|docs)/[a-z0-9_./-]*)`", text)
    inside = r"`((?:cli|runtime|init|outside|plan|steps|cgroup|userns|process|kernel|startup)/[a-z0-9_./-]*)`"
    named += [f"rootless/{name}" for name in re.findall(inside, text)]
    return [name for name in named if not (CHECKOUT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    assert not missing_files(page)
