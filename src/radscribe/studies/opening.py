"""How the images of given studies are opened: with or without the gate of DICOM files, and read for text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from radscribe.studies.burned_in_text import with_text_read
from radscribe.studies.images import original_view
from radscribe.studies.readers.arrow_files import EmbeddedImage
from radscribe.studies.readers.dicom_files import DicomFile
from radscribe.studies.stored_view import StoredView
from radscribe.studies.study import RenderedView, Study, View


@dataclass(frozen=True, slots=True)
class Opening:
    """How images are opened that are in no prepared store; those in a store were opened when it was prepared.

    Attributes:
        chest_only: Refuse DICOM files that are no radiographs of the chest; see `dicom_gate`.
        read_text: Read text in the pixels, and note it if it could identify a patient; see `burned_in_text`.
    """

    chest_only: bool = True
    read_text: bool = False

    def of(self, study: Study) -> Study:
        """The study, with its images opened so."""
        if self == DEFAULT_OPENING:
            return study
        return replace(study, views=tuple(map(self._view, study.views)))

    def _view(self, view: View) -> View:
        source = view.source
        if isinstance(source, StoredView):
            return view
        if not self.chest_only:
            if isinstance(source, Path):
                source = DicomFile(source, "", str(source), chest_only=False)
            elif isinstance(source, DicomFile | EmbeddedImage):
                source = replace(source, chest_only=False)
        if self.read_text:
            source = _ReadForText(View(source), view.name)
        return replace(view, source=source)


#: With the gate, and without reading text.
DEFAULT_OPENING = Opening()


@dataclass(frozen=True, slots=True)
class _ReadForText:
    """The source of a view whose pixels are read for text when this is called.

    Attributes:
        view: The view without that.
        file: Name of the view in messages.
    """

    view: View
    file: str

    def __call__(self) -> RenderedView:
        return with_text_read(original_view(self.view))

    def reduced(self, short_side: int) -> RenderedView:
        """The view, a large JPEG at a reduced scale; see `read_file`."""
        return with_text_read(original_view(self.view, short_side))
