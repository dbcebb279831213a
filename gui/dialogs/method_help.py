"""What each method does, when to use it and where it comes from, beside the open network."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor, QTextBlockFormat, QTextCharFormat, QTextCursor, QTextFormat
from PySide6.QtWidgets import (
    QDialog,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.options import MethodDescription
from featherweight.gui import theme, wording
from featherweight.gui.document import Document
from featherweight.gui.widgets.slot_editor import GAINS
from featherweight.resources.help.pages import method_page

NAME = Qt.ItemDataRole.UserRole
SIZE = QSize(960, 660)
LIST_WIDTH = 230


class MethodHelpDialog(QDialog):
    """A list of all methods and the page of one; it stays open while the person goes on."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self.setObjectName("method_help")
        self.setWindowTitle("Help on methods")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(SIZE)
        self.search = QLineEdit()
        self.search.setObjectName("help_search")
        self.search.setPlaceholderText("Find in all pages")
        self.search.setAccessibleName("Find in all pages")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._filter)
        self.list = QListWidget()
        self.list.setObjectName("help_list")
        self.list.setAccessibleName("Methods")
        self.list.setFixedWidth(LIST_WIDTH)
        self.list.currentItemChanged.connect(self._show_current)
        self.page = QTextBrowser()
        self.page.setObjectName("help_page")
        self.page.setAccessibleName("Page of the method")
        self.page.setOpenLinks(False)
        self.page.setFrameShape(QFrame.Shape.NoFrame)
        self.page.document().setDocumentMargin(16)
        side = QVBoxLayout()
        side.setSpacing(8)
        side.addWidget(self.search)
        side.addWidget(self.list)
        self.search.setFixedWidth(LIST_WIDTH)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addLayout(side)
        layout.addWidget(self.page, 1)
        document.methods_changed.connect(self._fill)
        self._fill()

    def show_method(self, name: str) -> None:
        """Turn to the page of a method, the first where it is unknown."""
        self.search.clear()
        known = [place for place in range(self.list.count()) if self._name(place)]
        found = [place for place in known if self._name(place) == name]
        for place in (found or known)[:1]:
            self.list.setCurrentRow(place)

    def _fill(self) -> None:
        self.list.clear()
        methods = self._document.methods
        for slot in dict.fromkeys(method.slot for method in methods):
            heading = QListWidgetItem(wording.SLOT_TITLES[slot])
            heading.setFlags(Qt.ItemFlag.NoItemFlags)
            heading.setForeground(QColor(theme.colours().muted))
            self.list.addItem(heading)
            for method in methods:
                if method.slot == slot:
                    item = QListWidgetItem(f"    {method.title}")
                    item.setData(NAME, method.name)
                    item.setToolTip(method.advice)
                    self.list.addItem(item)

    def _name(self, place: int) -> str:
        return self.list.item(place).data(NAME) or ""

    def _filter(self, text: str) -> None:
        """Show the methods whose pages have every word; headings stay where one is below them."""
        words = text.lower().split()
        heading, below = 0, False
        for place in range(self.list.count()):
            name = self._name(place)
            if not name:
                self.list.item(heading).setHidden(not below and place > 0)
                heading, below = place, False
                continue
            said = self.list.item(place).text() + method_page(name)
            fits = all(word in said.lower() for word in words)
            below = below or fits
            self.list.item(place).setHidden(not fits)
        self.list.item(heading).setHidden(not below)

    def _show_current(self, item: QListWidgetItem | None) -> None:
        name = item.data(NAME) if item else None
        method = self._document.method(name) if name else None
        if method is not None:
            self.page.setMarkdown(_told(method))
            _dress(self.page)


def _told(method: MethodDescription) -> str:
    """Return the page with what the method says of itself under its title."""
    title, _, rest = method_page(method.name).partition("\n")
    slot = wording.SLOT_TITLES[method.slot]
    facts = f"{slot}. {GAINS[method.gain]}. In recipes: `{method.name}`."
    return f"{title or '# ' + method.title}\n\n{facts}\n\n{method.advice}\n{rest}"


def _dress(page: QTextBrowser) -> None:
    """Give headings, paragraphs and formulas the spacing and the colours of the theme."""
    shades = theme.colours()
    sizes = {1: 15.0, 2: 11.0}
    block = page.document().begin()
    while block.isValid():
        cursor = QTextCursor(block)
        level = block.blockFormat().headingLevel()
        shape, letters = QTextBlockFormat(block.blockFormat()), QTextCharFormat()
        shape.setBottomMargin(6)
        if level:
            shape.setTopMargin(0 if level == 1 else 16)
            letters.setFontPointSize(sizes.get(level, 10.0))
        elif block.blockFormat().hasProperty(QTextFormat.Property.BlockCodeLanguage):
            shape.setBackground(QColor(shades.track))
            shape.setLeftMargin(8)
            shape.setBottomMargin(0)
        cursor.setBlockFormat(shape)
        cursor.select(QTextCursor.SelectionType.BlockUnderCursor)
        cursor.mergeCharFormat(letters)
        block = block.next()
