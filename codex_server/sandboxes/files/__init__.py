"""Operations on the files of a session, carried out as the guest and within its confinement.

An interpreter like those of the languages, but of our own: ``service.serve`` takes operations in place of cells. It is
loaded by the worker that it runs in, and only there: standard library only, and nothing of the other packages. A link
out of the workspace would lead nowhere that the guest may not go anyway; none is followed all the same. Each module has
one kind of operation; each operation is a function of a ``Workspace`` and its arguments.
"""
