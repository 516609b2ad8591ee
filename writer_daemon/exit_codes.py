"""What the exit codes of `telemetry-writer` mean."""

#: Asked to leave, or idle: everything that was taken is committed.
DONE = 0
#: A defect; the log has the traceback.
FAILED = 1
#: The command line, the database's URL or the bus folder cannot be used.
USAGE = 2
#: Another writer owns the database.
BUSY = 3
#: The database cannot be opened.
NO_DATABASE = 4
#: The bus folder was removed or replaced while the writer ran; the next one makes it anew.
LOST_FOLDER = 5
#: Left at once, at the second signal. Nothing is lost: what was not committed is in the journals.
FORCED = 6
#: A job's statement did not end when it was interrupted. The job is a dead letter of the next writer.
STUCK = 7
#: The database's file is open, or has its log, under another name.
OTHER_NAME = 8
