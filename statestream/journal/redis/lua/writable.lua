-- Writes nothing. Redis refuses to run it whenever it would refuse the script that appends.
return { "writable" }
