"""What the exit codes of `telemetry-bus` mean."""

#: Done. Of `status`: a writer runs and all is well.
DONE = 0
#: It could not be done, or not for all; standard error says why.
FAILED = 1
#: Of `status`: a writer owns the database and something is wrong with it, or jobs have failed. Monitoring calls this a
#: warning.
DEGRADED = 1
#: The command line, the environment, the database's URL or the bus folder cannot be used.
USAGE = 2
#: No writer runs; of other commands than `status`: one is needed, and none may be started.
ABSENT = 3
#: There is no such database, and no job waits for it: a path that was mistyped?
MISSING = 4
#: Ended by Ctrl-C: 128 and the signal's number, as shells have it.
INTERRUPTED = 130
#: Ended by SIGTERM, likewise.
TERMINATED = 143

EPILOG = """\
exit codes:
  0    done; status: a writer runs and all is well
  1    not done, or not for all; status: degraded, or failed jobs; doctor:
       a problem
  2    the command line, environment, URL or bus folder cannot be used
  3    no writer runs
  4    there is no such database
  130  ended by Ctrl-C
  143  ended by SIGTERM
"""
