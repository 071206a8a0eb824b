"""Methods of your own, named ``module:function``: their functions, their options, and the hash of their source.

To name such a method imports its module. To read the record of a run does not, because the record has the hash.
"""
